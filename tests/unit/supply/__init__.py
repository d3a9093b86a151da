# SPDX-License-Identifier: MulanPSL-2.0
"""What brings image and model."""
