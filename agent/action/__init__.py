# SPDX-License-Identifier: MulanPSL-2.0
"""Actions: doing what policy decided, through the ports."""
