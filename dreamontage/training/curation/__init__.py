"""A folder of real videos -> the encoded one-shot subset that Adaptive Tuning trains on.

The filters are the paper's (arXiv 2512.21252, "One-shot data filter"), in its order: one shot; a
first and a last frame that differ; quality; motion; people with a clear pose. The paper leaves the
measures and limits open. Ours are explained where they are defined.

    target     the size and rate that clips are brought to
    measure    one pass over a video: shots, likeness, quality, motion, actions
    judge      the verdict on a measurement
    sidecar    captions written by people
    encode     latents, their variance, and stills encoded alone
    videos     which files are measured, and the decision about each
    measured   measurements stored on disk
    run        all of it, resumable, in one process
    report     the result for every video
"""
