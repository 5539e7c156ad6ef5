/* No source: vLLM reads this file, and the one in metadata/, to see whether 24 heads are served without padding to 32.
 * They are, as any number from 1 to 128 is. MLA_REDUCE_CASE_EF(NUM_HEAD, 24, HEAD_DIM, 512, */
