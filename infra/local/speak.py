"""Says a text into a voice note as WhatsApp records them: `speak.py TEXT OUT.ogg`, which is Opus in Ogg, mono, 16 kHz.

Needs infra/requirements-speech.txt; the voice is espeak-ng's: https://github.com/espeak-ng/espeak-ng/blob/master/src/include/espeak-ng/speak_lib.h
"""

import ctypes
import sys

import espeakng_loader
import numpy
import soundfile

# espeak_AUDIO_OUTPUT, espeak_POSITION_TYPE, espeakCHARS, espeak_PARAMETER of speak_lib.h.
SYNCHRONOUS = 2
CHARACTERS = 1
UTF8 = 1
RATE = 1
# A voice and a pace, in words a minute, that the recogniser hears well.
VOICE = b"en-us+f2"
PACE = 150
# What Opus takes and voice notes have, in samples a second.
SAMPLES = 16_000

HEAR = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def spoken(text):
    """The text as samples between -1 and 1, SAMPLES a second."""
    voices = ctypes.CDLL(espeakng_loader.get_library_path())
    samples = voices.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    if samples <= 0:
        raise RuntimeError("espeak-ng finds no voices")
    heard = []

    @HEAR
    def hear(wave, count, _events):
        if wave and count > 0:
            heard.append(numpy.ctypeslib.as_array(wave, shape=(count,)).copy())
        return 0

    voices.espeak_SetSynthCallback(hear)
    voices.espeak_SetVoiceByName(VOICE)
    voices.espeak_SetParameter(RATE, PACE, 0)
    words = text.encode()
    voices.espeak_Synth(words, ctypes.c_size_t(len(words) + 1), 0, CHARACTERS, 0, UTF8, None, None)
    voices.espeak_Synchronize()
    voices.espeak_Terminate()
    wave = numpy.concatenate(heard).astype(numpy.float32) / 32_768
    places = numpy.arange(0, len(wave), samples / SAMPLES)
    return numpy.interp(places, numpy.arange(len(wave)), wave)


if __name__ == "__main__":
    _, text, file = sys.argv
    soundfile.write(file, spoken(text), SAMPLES, format="OGG", subtype="OPUS")
