"""A client for each message, as Murano's components do it: connect, declare, send, close. Runs on Python 2.7 and 3.

murano_peer.py PACKAGE HOST PORT QUEUE MESSAGES prints, as JSON, the milliseconds that the median message takes and the
CPU time of this process for one.
"""

from __future__ import print_function

import importlib
import json
import resource
import sys
import time

package, host, port, queue, messages = sys.argv[1:]
messaging = importlib.import_module(package)


def one():
    with messaging.MqClient("guest", "guest", host, int(port), "/") as client:
        client.declare(queue, enable_ha=True, ttl=60000)
        message = messaging.Message()
        message.id = "1"
        message.body = {"Action": "Execute", "Body": "x" * 200}
        client.send(message=message, key=queue)


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


for _ in range(10):
    one()
taken = []
before = cpu()
for _ in range(int(messages)):
    started = time.time()
    one()
    taken.append(time.time() - started)
used = cpu() - before
print(json.dumps({"ms": sorted(taken)[len(taken) // 2] * 1e3, "cpu_ms": used / len(taken) * 1e3}))
