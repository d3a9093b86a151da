# SPDX-License-Identifier: MulanPSL-2.0
"""The engine double (`vllm`, `vllm_double/`) and the checks that a real vLLM must pass, too."""
