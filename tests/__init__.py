# SPDX-License-Identifier: MulanPSL-2.0
"""The tests: unit and scenario by default, lab on request."""
