"""Unfold, fold, and the convolutions that gather their windows: deformable, locally connected, partial."""
