"""Trains Easel's embedded checkpoint from free emoji art: `python -m tools.embedded_model <stage>`."""
