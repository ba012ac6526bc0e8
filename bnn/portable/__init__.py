"""The classifier for other programs: as ONNX, and as a page that needs no server."""
