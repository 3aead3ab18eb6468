"""Remote procedure call, one half: answers with Fibonacci numbers."""

from common import connect


def fibonacci(number):
    one, next_one = 0, 1
    for _ in range(number):
        one, next_one = next_one, one + next_one
    return one


client = connect()
client.wait(client.queue_declare(queue="rpc_queue"))
consume_promise = client.basic_consume(queue="rpc_queue", prefetch_count=1)
print(" [x] Awaiting RPC requests", flush=True)
try:
    while True:
        request = client.wait(consume_promise)
        number = int(request["body"])
        print(" [.] fibonacci(%s)" % number, flush=True)
        client.wait(
            client.basic_publish(
                exchange="",
                routing_key=request["headers"]["reply_to"],
                headers={"correlation_id": request["headers"]["correlation_id"]},
                body=str(fibonacci(number)),
            )
        )
        client.basic_ack(request)
except KeyboardInterrupt:
    client.wait(client.close())
