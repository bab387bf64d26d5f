[VapourSynth Manifest V1]
iconvsr
