"""Measures zygo beside bare uvicorn on the same machine, in the same run: `python -m benchmarks`."""
