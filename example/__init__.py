"""Small detectors, complete: data, matching, ragged losses, COCO mAP and pictures.

- ``python -m example`` trains one on scenes of handwritten digits; ``--help`` lists what else it does.
- ``python -m example.coco_digits DIR`` writes such scenes in COCO's format, for ``--data`` and ``--ann``.
- ``python -m example.walkthrough`` shows a per-sample loss built step by step from lists of ground truth.

To read it, begin with ``run.py``. Data: ``data.py``, ``digits.py``, ``coco_folder.py``. Networks: ``model.py``,
``query_model.py``. Detectors: ``detector.py``, and ``dense_heads.py``, ``anchor_heads.py``, ``query_heads.py``. Your
own loss: ``criterion.py``, ``matching.py``. Training: ``train.py``, ``progress.py``, ``logs.py``, ``ranks.py``.
Results: ``evaluate.py``, ``picture.py``, ``curves.py``, ``ranking.py``, ``compare.py``.
"""
