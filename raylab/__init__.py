"""raylab: train a study of LLM fine-tunes on Ray, and measure exactly what moved."""

__version__ = "0.1.0"
