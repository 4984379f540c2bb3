"""Media: MPEG-TS demux and mux, decode, scale, encode, segments and clocks."""
