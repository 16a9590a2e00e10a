"""The project, as it would be without zygo: `fastapi dev chat/main.py` serves it, too."""
