"""A complete small detector: digit scenes, one-to-one matching, ragged losses, COCO mAP and a picture.

Run ``python -m example`` in the repository root to train and evaluate it, and ``python -m example.walkthrough`` to
see a per-sample loss built step by step from lists of ground truth.
"""
