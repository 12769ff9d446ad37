"""A folder of real videos -> the one-shot subset that Adaptive Tuning is trained on, encoded.

The filters are the paper's (arXiv 2512.21252, "One-shot data filter"), in its order: one shot; a
first and a last frame that differ; quality; motion; people with a clear pose. What it leaves open,
every measure and every limit among it, is ours and said where it is decided.

    target     the size and rate that clips are brought to
    measure    one pass over a video: shots, likeness, quality, motion, actions
    judge      the verdict on what was measured
    sidecar    captions that somebody wrote
    encode     latents, their variance, and stills encoded alone
    videos     which files, and what is decided about them
    measured   what was measured, kept
    run        the whole, resumable, in one process
    report     what became of every video
"""
