/* Quadratic forms of sparse rows of indicators, and weighted counts of pairs on the way back, LANES tables side by side.

   Row n has ones at on[starts[n] .. starts[n + 1]), increasing. A table has one number for every pair i <= j of the M
   indicators, row by row of its upper triangle, P = M (M + 1) / 2 of them; tables (B, P, LANES), out and weight
   (N, B, LANES). */
#include <stdint.h>

enum { LANES = 16 };

int64_t lanes(void) { return LANES; }

/* Where row i of the triangle would begin, had it a column 0. */
static inline int64_t row_of(int64_t i, int64_t M) { return i * M - i * (i + 1) / 2; }

void forward(int64_t N, int64_t M, int64_t B, const int64_t *restrict starts, const int32_t *restrict on,
             const double *restrict tables, double *restrict out) {
    for (int64_t b = 0; b < B; b++) {
        const double *table = tables + b * (M * (M + 1) / 2) * LANES;
        for (int64_t n = 0; n < N; n++) {
            double sum[LANES] = {0};
            for (int64_t i = starts[n]; i < starts[n + 1]; i++) {
                const double *row = table + row_of(on[i], M) * LANES;
                for (int64_t j = i; j < starts[n + 1]; j++)
                    for (int l = 0; l < LANES; l++) sum[l] += row[(int64_t)on[j] * LANES + l];
            }
            for (int l = 0; l < LANES; l++) out[(n * B + b) * LANES + l] = sum[l];
        }
    }
}

void backward(int64_t N, int64_t M, int64_t B, const int64_t *restrict starts, const int32_t *restrict on,
              const double *restrict weight, double *restrict tables) {
    for (int64_t b = 0; b < B; b++) {
        double *table = tables + b * (M * (M + 1) / 2) * LANES;
        for (int64_t n = 0; n < N; n++) {
            double w[LANES];
            int any = 0;
            for (int l = 0; l < LANES; l++) any |= (w[l] = weight[(n * B + b) * LANES + l]) != 0.0;
            if (!any) continue;
            for (int64_t i = starts[n]; i < starts[n + 1]; i++) {
                double *row = table + row_of(on[i], M) * LANES;
                for (int64_t j = i; j < starts[n + 1]; j++)
                    for (int l = 0; l < LANES; l++) row[(int64_t)on[j] * LANES + l] += w[l];
            }
        }
    }
}
