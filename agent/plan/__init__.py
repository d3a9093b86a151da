# SPDX-License-Identifier: MulanPSL-2.0
"""Planning: configuration and facts in, a Plan or a Failure out. Pure."""
