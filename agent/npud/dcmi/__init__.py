# SPDX-License-Identifier: MulanPSL-2.0
"""libdcmi, read in a process of its own, because its calls can hang where no signal helps.

npud: dcmi_source -- asking, resets -- process -- worker, reset_work -- reader -- library
          |              |               (fork)        |                              |
      picture,        agenda, left_out,                |         abi (structs)     calls (shared)
      faults, account reset_plan (pure)                |
      (pure)             +---- link (messages) --------+
"""
