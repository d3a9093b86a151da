# SPDX-License-Identifier: MulanPSL-2.0
"""Which texts have to be there in Chinese: found in the sources, so that none is forgotten."""
