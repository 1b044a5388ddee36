"""An OpenAI-compatible endpoint with vLLM's further routes and seeded faults: `python -m servers.mock`.

It measures clients and provokes failures; it proves nothing about learning.
"""
