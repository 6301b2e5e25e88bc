"""A controlled experiment: does guidance make a network give up a planted shortcut? Not: how does it fare on GANs.

All faces are rendered here. Synthetic ones have defects that people can see, and mark (:mod:`.defects`,
:mod:`.annotations`), and the faint fingerprint of their generator (:mod:`.generators`), which only a network sees.
Networks trained on one generator meet six others, whose fingerprints differ.

Size of the network, strength of the fingerprint and length of training were settled on other seeds and other draws of
the generators than those of the claims; the six families of fingerprints were known by then. Weights were chosen on
faces of the training generator alone, by a criterion that uses human maps (:mod:`.tune`).
"""
