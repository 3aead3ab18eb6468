"""Work queue, one half: sends a task; each dot in it is a second of work. ``new_task.py two seconds..``"""

import sys

from common import connect

client = connect()
client.wait(client.queue_declare(queue="task_queue", durable=True))
message = " ".join(sys.argv[1:]) or "Hello World!"
client.wait(client.basic_publish(exchange="", routing_key="task_queue", body=message, headers={"delivery_mode": 2}))
print(" [x] Sent %r" % message, flush=True)
client.wait(client.close())
