# SPDX-License-Identifier: MulanPSL-2.0
"""`deepseekctl doctor`: what was seen of a host comes in, findings go out. Pure."""
