# SPDX-License-Identifier: MulanPSL-2.0
"""Takes every local port that a connection to HOST:PORT can have, and holds them all:
`port_eater.py HOST PORT`. Says how many when there are no more. Runs inside a lab host.
"""

import errno
import socket
import sys
import time

held: list[socket.socket] = []
host, port = sys.argv[1], int(sys.argv[2])
while True:
    one = socket.socket()
    one.settimeout(1)
    try:
        one.connect((host, port))
        held.append(one)
    except OSError as error:
        one.close()
        if error.errno != errno.EADDRNOTAVAIL:
            time.sleep(0.1)
            continue
        print(f"{len(held)} ports are taken", flush=True)
        # What the server has closed is opened again.
        time.sleep(1)
        for old in held[:]:
            old.setblocking(False)
            try:
                if not old.recv(1):
                    held.remove(old)
                    old.close()
            except OSError as reason:
                if reason.errno not in (errno.EAGAIN, errno.EWOULDBLOCK):
                    held.remove(old)
                    old.close()
