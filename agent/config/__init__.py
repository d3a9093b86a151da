# SPDX-License-Identifier: MulanPSL-2.0
"""Configuration: files and environment in, frozen values out."""
