# SPDX-License-Identifier: MulanPSL-2.0
"""libdcmi, read in a process of its own, because its calls can hang where no signal helps.

npud (source)  -- process (fork, kill) -- worker (the forked one's loop) -- reader -- library
     |                    |                    |                                      |
     +-- faults, account  +------ link --------+         abi (structs, names)     calls (shared)
         (pure)                (messages)
"""
