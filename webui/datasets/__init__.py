"""Pictures and captions to train on: folders, buckets, batches, augmentation, checks, kohya's TOML. No torch.

Source of the rules: the behaviour of kohya-ss/sd-scripts, so that a folder made for it gives the same batches here.
"""
