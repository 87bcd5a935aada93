"""Calls the server with OpenAI's own client, and prints the results as JSON.

Arguments: the address, a token, the model, a JSON list of texts, and the token ids of each.
"""

import asyncio
import json
import struct
import sys

import openai


def bits(reply):
    assert [item.index for item in reply.data] == list(range(len(reply.data)))
    return [struct.pack(f"<{len(item.embedding)}f", *item.embedding).hex() for item in reply.data]


async def embed_asynchronously(options, **arguments):
    async with openai.AsyncOpenAI(**options) as client:
        return await client.embeddings.create(**arguments)


def error_of(call):
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.type, error.code, error.param]
    return "no error"


def main():
    address, token, model = sys.argv[1:4]
    texts, tokens = json.loads(sys.argv[4]), json.loads(sys.argv[5])
    options = {"base_url": f"http://{address}/v1", "api_key": token, "timeout": 600, "max_retries": 0}
    with openai.OpenAI(**options) as client:
        create = client.embeddings.create
        # Without a format, the client asks for base64.
        plain = create(model=model, input=texts)
        stranger = client.with_options(api_key="a-wrong-key")
        results = {
            "vectors": {
                "plain": bits(plain),
                "float": bits(create(model=model, input=texts, encoding_format="float", user="somebody")),
                "single": bits(create(model=model, input=texts[0])),
                "asynchronous": bits(asyncio.run(embed_asynchronously(options, model=model, input=texts))),
                "tokens": bits(create(model=model, input=tokens)),
                "cut": bits(create(model=model, input=texts, dimensions=7, extra_body={"of_others": [1]})),
            },
            "reply": [plain.object, plain.model, plain.data[0].object, plain.usage.prompt_tokens, plain.usage.total_tokens],
            "models": [found.model_dump(exclude_none=True) for found in client.models.list()],
            "model": client.models.retrieve(model).id,
            "same_model": client.models.retrieve(plain.model).id,
            "errors": {
                "key": error_of(lambda: stranger.embeddings.create(model=model, input="a")),
                "key_for_models": error_of(stranger.models.list),
                "model": error_of(lambda: create(model="text-embedding-3-small", input="a")),
                "model_alone": error_of(lambda: client.models.retrieve("text-embedding-3-small")),
                "texts": error_of(lambda: create(model=model, input=["a"] * 2049)),
                "text": error_of(lambda: create(model=model, input=["a", "x" * (64 * 1024 + 1)])),
                "body": error_of(lambda: create(model=model, input="x" * (3 << 19))),
                "dimensions": error_of(lambda: create(model=model, input="a", dimensions=4096)),
                "tokens": error_of(lambda: create(model=model, input=[[1, 2], [999_999]])),
                "path": error_of(lambda: client.chat.completions.create(model=model, messages=[])),
            },
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
