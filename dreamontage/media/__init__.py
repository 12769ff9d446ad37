"""Pictures and films in and out: every call to ffmpeg is made here.

    guard      which files are opened at all
    probe      what a file is, before anything is done with it
    images     a still of any kind -> an 8-bit sRGB PNG of the film's size
    clips      a video of any kind -> a lossless film of the film's size and frame rate
    stream     a video's frames one by one, with nothing written
    encode     frames -> a lossless mezzanine, or the H.264 film that is delivered
    sheet      a film -> the contact sheet that shows it at a glance

Arrays are `frames_THWC` and `frame_HWC`: uint8 RGB, T frames, H rows, W columns, C = 3.
A file that cannot be used is a `ValueError` of one line that names the file and the rule.
"""

from dreamontage.media.clips import frame_count, ingest_clip, read_frames
from dreamontage.media.encode import Encoder, Profile, concat
from dreamontage.media.fit import Fit
from dreamontage.media.images import ingest_image, read_image
from dreamontage.media.probe import MediaInfo, MediaKind, probe
from dreamontage.media.process import ffmpeg_binary
from dreamontage.media.sheet import Mark, contact_sheet
from dreamontage.media.stream import sample_pictures, stream_clip

__all__ = [
    "Encoder",
    "Fit",
    "Mark",
    "MediaInfo",
    "MediaKind",
    "Profile",
    "concat",
    "contact_sheet",
    "ffmpeg_binary",
    "frame_count",
    "ingest_clip",
    "ingest_image",
    "probe",
    "read_frames",
    "read_image",
    "sample_pictures",
    "stream_clip",
]
