"""The PyTorch side: nets of our own, the demo model with its data and training, and the way from PyTorch to ONNX.

`build` turns `torchvision:NAME`, `ortrim:NAME` or `package.module:factory` into a module, `export` turns a module into
an ONNX file, and `trace` does both.
"""
