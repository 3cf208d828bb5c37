/* Categorical columns given a known row of the table: look-ups, and counts on the way back.
   codes (N, D) bytes, 255 = unknown; rows (N) which row of the table; logits and counts (K, D, L). */
#include <stdint.h>

void forward(int64_t N, int64_t D, int64_t L, const uint8_t *restrict codes, const int64_t *restrict rows,
             const double *restrict logits, double *restrict out) {
    for (int64_t n = 0; n < N; n++) {
        const double *row = logits + rows[n] * D * L;
        double sum = 0.0;
        for (int64_t d = 0; d < D; d++)
            if (codes[n * D + d] != 255) sum += row[d * L + codes[n * D + d]];
        out[n] = sum;
    }
}

void backward(int64_t N, int64_t D, int64_t L, const uint8_t *restrict codes, const int64_t *restrict rows,
              const double *restrict weight, double *restrict counts) {
    for (int64_t n = 0; n < N; n++) {
        double *row = counts + rows[n] * D * L;
        for (int64_t d = 0; d < D; d++)
            if (codes[n * D + d] != 255) row[d * L + codes[n * D + d]] += weight[n];
    }
}
