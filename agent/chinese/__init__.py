# SPDX-License-Identifier: MulanPSL-2.0
"""The Chinese of deepseekctl: tables from English text, which is the key, to Chinese.

Terms as in Huawei's documentation: 昇腾, 芯片, 驱动, 固件, 隔离, 复位. tests/unit/test_language.py
finds the keys in the sources, and refuses what is missing, left over, or has lost a value.
"""
