# SPDX-License-Identifier: MulanPSL-2.0
"""Trust in one certificate: that of an engine on this host. Standard library only."""

import ssl

NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, openssl/x509_vfy.h; ssl has no name for it


def trust_only(certificate: str) -> ssl.SSLContext:
    """Takes the certificate in that file for whatever name, also when its time is over: that is
    trouble of its clients, and no sign of an engine that is ill. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
    return context
