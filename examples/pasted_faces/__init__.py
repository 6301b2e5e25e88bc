"""A planted shortcut on real photographs: does guidance make a network decide by the patch that people marked?

Photographed patches, faces or not, are pasted on photographed textures that go with the label in training and are
swapped in testing. All photographs come with scikit-image: nothing is downloaded.

Size of the network and length of training were settled on validation patches and other seeds than those of the
comparison, alphas on validation scenes that have the training's textures (:mod:`.tune`).
"""
