"""Measuring on another machine: `ortrim serve` there, `--device http://HOST:PORT` here.

On the device: `server` listens, `app` has the endpoints and `access` decides who may call them; `store` keeps models by
hash, after `gate` looked at them; `jobs` measures one after the other, each in the process of `worker`, which `child`
starts, limits and ends. Here: `transport` carries messages and retries, `client` sends files and waits for results,
`pool` has several services take turns, `remote` asks the questions of `ortrim.runtime`, `config` knows devices by name.
Both sides speak `protocol` and `arrays`.

The server needs starlette and uvicorn beside what `ortrim.runtime` needs; the client adds nothing. Neither imports
torch. What travels is JSON, ONNX and raw numbers, never pickle, and never a path.
"""
