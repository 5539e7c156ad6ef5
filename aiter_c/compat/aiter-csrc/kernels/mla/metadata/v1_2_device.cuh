/* No source, see ../reduce.cu: num_heads == 24 */
