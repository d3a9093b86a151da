# SPDX-License-Identifier: MulanPSL-2.0
"""The engine double: `vllm serve` without a model, for tests. Standard library only.

In: the real command line, options from the environment and two JSON files. Out: the OpenAI API,
/health and /metrics on one port, vLLM-like lines on stderr, and faults on request.
Nothing here may import anything of ours: it runs in an image that holds only python3.
"""
