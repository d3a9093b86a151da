# SPDX-License-Identifier: MulanPSL-2.0
"""Everything for one instance in a folder on a disk, for a host without internet (docs/bundle.md).

In: a model folder with its manifest and an image of Podman's storage, or a folder that somebody
has carried here. Out: that folder, or the model below models_dir and the image in Podman's storage.
"""
