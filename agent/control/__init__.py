# SPDX-License-Identifier: MulanPSL-2.0
"""Control: the one writer of the state, between what happens and what is done."""
