# SPDX-License-Identifier: MulanPSL-2.0
"""npud: the only process that touches the NPU driver. What it knows goes out on npu.sock.

It is small, runs in the host's mount namespace with full capabilities, and reads in this order:

    /dev (devices, inotify) ---------------+
                                           +--> inventory (pure) --> server <--> clients (agentd)
    libdcmi (dcmi_source, forked worker) --+                           ^
        |  cannot be used here             |                           +-- requests (pure)
        +--> npu-smi (smi_source, child) --+
                   ^
                   +-- npu_smi, smi_reset (pure): what the text means that npu-smi prints

daemon.py is the loop that joins them. A source does what source.Source says: it reads, and it
resets. dcmi/ is what is behind dcmi_source.
"""
