# SPDX-License-Identifier: MulanPSL-2.0
"""Whose fault it is when an engine on trial fails: that of the new image or model, or not. Pure.

What stands in neither set (an NPU that is gone, the host, Podman, systemd) would have come to the
former one too.
"""

from agent.errors import Code

# What an image or a model can be the reason of.
OF_THE_NEW_ONE = frozenset(
    {
        Code.ENGINE_DIED,
        Code.ENGINE_HUNG,
        Code.ENGINE_FAILED,
        Code.UNIT_START_FAILED,
        Code.START_TOO_SLOW,
        Code.IMAGE_MISSING,
        Code.MODEL_MISSING,
        Code.MODEL_INVALID,
        Code.MODEL_UNSUPPORTED,
        Code.CONTENT_DAMAGED,
        Code.DTYPE_UNSUPPORTED,
        Code.ENGINE_OPTION_INVALID,
        Code.KV_CACHE_TOO_SMALL,
        Code.HCCL_TIMEOUT,
        Code.NPU_INIT_FAILED,
        Code.NPU_NOT_USABLE,  # it is held for that, so it would never be tried again
        Code.NPU_OUT_OF_MEMORY,
        Code.NPU_SOFTWARE_MISMATCH,
    }
)
# What an engine says of its NPU or its port. Once, that may be so; what comes each time, while the
# driver finds nothing, is rather of its kernels (ACL 507015, 507018) and its own processes.
MAYBE_OF_THE_NEW_ONE = frozenset({Code.NPU_FAULTED, Code.NPU_MEMORY_IN_USE, Code.PORT_IN_USE})
