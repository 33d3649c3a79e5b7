"""Unfold, fold, and the convolutions that gather their windows: locally connected, deformable, partial."""
