"""Operations that bugs are planted into, and the bugs; those of criteria and matchers are in ``cases``."""
