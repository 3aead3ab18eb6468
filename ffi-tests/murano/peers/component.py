"""A miniature engine or agent, for any of the wrappers old and new: only the import differs. Runs on Python 2.7 and 3.

component.py ROLE PACKAGE HOST PORT QUEUE RESULTS COUNT
"""

from __future__ import print_function

import importlib
import json
import sys

role, package, host, port, queue, results, count = sys.argv[1:]
count = int(count)
# The package of Murano's engine itself has no names.
Message = importlib.import_module(package + ".message").Message
MqClient = importlib.import_module(package + ".mqclient").MqClient


def new(id, body):
    message = Message()
    message.id = id
    message.body = body
    return message


def document(message):
    # The wrapper of the agent hands over the text.
    return message.body if isinstance(message.body, dict) else json.loads(message.body)


def plan(n):
    return {
        "FormatVersion": "2.0.0",
        "ID": "plan-%d" % n,
        "Action": "Execute",
        "Name": u"na\u00efve \u2028 %d" % n,
        "Body": "return args.n",
        "Parameters": {"n": n, "nested": [1, 2.5, None, True, {"a": "b"}]},
        "Scripts": {},
        "Files": {},
        "Stamp": n,
    }


def result(of, n):
    return {
        "FormatVersion": "2.0.0",
        "ID": "result-%d" % n,
        "SourceID": of["ID"],
        "Action": "Execution:Result",
        "ErrorCode": 0,
        "Body": of["Parameters"]["n"],
        "Time": "now",
    }


with MqClient(login="guest", password="guest", host=host, port=int(port), virtual_host="/") as client:
    if role == "engine":
        client.declare(results, enable_ha=True, ttl=60000)
        client.declare(queue, enable_ha=True, ttl=60000)
        for n in range(count):
            client.send(message=new("plan-%d" % n, plan(n)), key=queue)
        print("sent")
        sys.stdout.flush()
        with client.open(results) as subscription:
            for n in range(count):
                message = subscription.get_message(timeout=30)
                print(json.dumps([message.id, document(message)], sort_keys=True))
                message.ack()
    else:
        with client.open(queue) as subscription:
            for n in range(count):
                message = subscription.get_message(timeout=30)
                given = document(message)
                assert given == plan(n), given
                print(json.dumps(message.id))
                client.send(message=new(given["ID"], result(given, n)), key=results)
                message.ack()
