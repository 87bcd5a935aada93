"""Calls the server with Triton's own client, and prints the results as JSON.

Arguments: the address, the model, a JSON list of texts.
"""

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException


def tensor(elements, shape, datatype="BYTES"):
    found = triton.InferInput("text", shape, datatype)
    found.set_data_from_numpy(np.array(elements, np.object_ if datatype == "BYTES" else np.float32).reshape(shape))
    return found


def vectors(result):
    found = result.as_numpy("embedding")
    return {"shape": list(found.shape), "bytes": found.tobytes().hex()}


def infer_asynchronously(client, model, inputs):
    done = queue.Queue()
    client.async_infer(model, inputs, callback=lambda result, error: done.put((result, error)))
    result, error = done.get(timeout=600)
    if error is not None:
        raise error
    return result


def code_of(call):
    try:
        call()
    except InferenceServerException as error:
        return error.status()
    return "no error"


def main():
    address, model, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    encoded, count = [text.encode() for text in texts], len(texts)
    with triton.InferenceServerClient(address) as client:
        inputs = [tensor(encoded, [count])]
        outputs = [triton.InferRequestedOutput("embedding")]
        plain = client.infer(model, inputs, outputs=outputs, request_id="42", client_timeout=600)
        column = client.infer(model, [tensor(encoded, [count, 1])], model_version="1", client_timeout=600)
        asynchronous = infer_asynchronously(client, model, inputs)
        options = client.infer(model, inputs, parameters={"normalize": False, "dimensions": 7}, client_timeout=600)
        results = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready(model),
            "server": client.get_server_metadata(as_json=True),
            "model": client.get_model_metadata(model, as_json=True),
            "id": plain.get_response().id,
            "vectors": {
                "plain": vectors(plain),
                "column": vectors(column),
                "asynchronous": vectors(asynchronous),
                "options": vectors(options),
            },
            "errors": {
                "config": code_of(lambda: client.get_model_config(model)),
                "other_model": code_of(lambda: client.infer("other", inputs)),
                "other_datatype": code_of(lambda: client.infer(model, [tensor([0.0], [1], "FP32")])),
            },
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
