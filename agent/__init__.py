# SPDX-License-Identifier: MulanPSL-2.0
"""deepseek-agent: keeps DeepSeek models serving on unattended Ascend servers."""

__version__ = "0.1.0"
