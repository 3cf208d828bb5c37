/* Un-normalised Gaussians with unknown cells integrated out, LANES components side by side in every number.

   For a row with unknown cells m and known cells o, under exp(c + h'x - x'Px/2):
     t = h_m - P_mo x_o,   y = P_mm^-1 t (the expected unknown cells),
     log density = (the same with zeros for the unknown cells) + t'y/2 - log|P_mm|/2 + |m|/2 log 2 pi.
   The first part is a matrix product and is not done here. Rows come sorted by their pattern of unknown cells.

   P (B, D, D, LANES) and h (B, D, LANES) hold B blocks of components; x (N, D) has zeros for unknown cells. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 8
#elif defined(__AVX__)
#define LANES 4
#else
#define LANES 2
#endif

typedef double V __attribute__((vector_size(8 * LANES), aligned(8))); /* what one register holds */

int64_t lanes(void) { return LANES; }

static const double LOG_TWO_PI = 1.8378770664093454836;

/* log of the product of d. */
static V log_det(const V *d, int64_t m) {
    V product = (V){0} + 1.0, logs = {0};
    for (int64_t j = 0; j < m; j++) {
        product *= d[j];
        if (j % 4 == 3 || j == m - 1) {
            for (int lane = 0; lane < LANES; lane++) logs[lane] += log(product[lane]);
            product = (V){0} + 1.0;
        }
    }
    return logs;
}

/* P_mm = L diag(d) L', unit lower triangular. */
static void factor(const V *P, int64_t D, const int64_t *miss, int64_t m, V *L, V *diagonal, V *inverse) {
    for (int64_t j = 0; j < m; j++) {
        V d = P[miss[j] * D + miss[j]];
        for (int64_t p = 0; p < j; p++) d -= L[j * m + p] * L[j * m + p] * diagonal[p];
        diagonal[j] = d;
        inverse[j] = 1.0 / d;
        for (int64_t i = j + 1; i < m; i++) {
            V sum = P[miss[i] * D + miss[j]];
            for (int64_t p = 0; p < j; p++) sum -= L[i * m + p] * L[j * m + p] * diagonal[p];
            L[i * m + j] = sum * inverse[j];
        }
    }
}

/* y = (L diag(d) L')^-1 t, in place. */
static void solve(const V *L, const V *inverse, int64_t m, V *y) {
    for (int64_t i = 1; i < m; i++)
        for (int64_t p = 0; p < i; p++) y[i] -= L[i * m + p] * y[p];
    for (int64_t i = 0; i < m; i++) y[i] *= inverse[i];
    for (int64_t i = m - 2; i >= 0; i--)
        for (int64_t p = i + 1; p < m; p++) y[i] -= L[p * m + i] * y[p];
}

static void pull(const V *P, const V *h, int64_t D, const int64_t *miss, int64_t m, const int64_t *seen, int64_t o,
                 const double *x, V *t) {
    for (int64_t i = 0; i < m; i++) {
        const V *row = P + miss[i] * D;
        V sum = h[miss[i]], other = {0};
        int64_t j = 0;
        for (; j + 1 < o; j += 2) {
            sum -= row[seen[j]] * x[seen[j]];
            other -= row[seen[j + 1]] * x[seen[j + 1]];
        }
        if (j < o) sum -= row[seen[j]] * x[seen[j]];
        t[i] = sum + other;
    }
}

static int64_t split(const uint8_t *unknown, int64_t D, int64_t *miss, int64_t *seen) {
    int64_t m = 0, o = 0;
    for (int64_t d = 0; d < D; d++)
        if (unknown[d]) miss[m++] = d;
        else seen[o++] = d;
    return m;
}

/* out (N, B, LANES): what the unknown cells add to the log density. */
void forward(int64_t patterns, int64_t blocks, int64_t D, const int64_t *edges, const int64_t *order,
             const uint8_t *unknown, const double *x, const V *P, const V *h, V *out) {
    int64_t *miss = malloc(2 * D * sizeof(int64_t)), *seen = miss + D;
    V *L = aligned_alloc(64, (D * D + 4 * D) * sizeof(V)), *diagonal = L + D * D, *inverse = diagonal + D, *t = inverse + D;
    V *y = t + D;
    for (int64_t g = 0; g < patterns; g++) {
        int64_t m = split(unknown + g * D, D, miss, seen), o = D - m;
        for (int64_t b = 0; b < blocks; b++) {
            const V *Pb = P + b * D * D, *hb = h + b * D;
            factor(Pb, D, miss, m, L, diagonal, inverse);
            V constant = 0.5 * (m * LOG_TWO_PI - log_det(diagonal, m));
            for (int64_t r = edges[g]; r < edges[g + 1]; r++) {
                V sum = constant;
                pull(Pb, hb, D, miss, m, seen, o, x + order[r] * D, t);
                memcpy(y, t, m * sizeof(V));
                solve(L, inverse, m, y);
                for (int64_t i = 0; i < m; i++) sum += 0.5 * t[i] * y[i];
                out[order[r] * blocks + b] = sum;
            }
        }
    }
    free(miss);
    free(L);
}

/* Expected statistics beyond those of the zeros: first (B, D, LANES) and second (B, D, D, LANES), lower triangle of the
   unknown block and the rows of unknown cells; rows count weight (N, B, LANES) times. */
void backward(int64_t patterns, int64_t blocks, int64_t D, const int64_t *edges, const int64_t *order,
              const uint8_t *unknown, const double *x, const V *P, const V *h, const V *weight, V *first, V *second) {
    int64_t *miss = malloc(2 * D * sizeof(int64_t)), *seen = miss + D;
    V *L = aligned_alloc(64, (D * D + 3 * D) * sizeof(V)), *diagonal = L + D * D, *inverse = diagonal + D, *y = inverse + D;
    for (int64_t g = 0; g < patterns; g++) {
        int64_t m = split(unknown + g * D, D, miss, seen), o = D - m;
        if (m == 0) continue;
        for (int64_t b = 0; b < blocks; b++) {
            const V *Pb = P + b * D * D, *hb = h + b * D;
            V *one = first + b * D, *two = second + b * D * D, total = {0};
            factor(Pb, D, miss, m, L, diagonal, inverse);
            for (int64_t r = edges[g]; r < edges[g + 1]; r++) {
                const double *row = x + order[r] * D;
                V w = weight[order[r] * blocks + b];
                pull(Pb, hb, D, miss, m, seen, o, row, y);
                solve(L, inverse, m, y);
                total += w;
                for (int64_t i = 0; i < m; i++) {
                    V wy = w * y[i], *into = two + miss[i] * D;
                    one[miss[i]] += wy;
                    for (int64_t j = 0; j < o; j++) into[seen[j]] += wy * row[seen[j]];
                    for (int64_t j = 0; j <= i; j++) into[miss[j]] += wy * y[j];
                }
            }
            for (int64_t j = 0; j < m; j++) { /* columns of P_mm^-1 */
                memset(y, 0, m * sizeof(V));
                y[j] = total;
                solve(L, inverse, m, y);
                for (int64_t i = j; i < m; i++) two[miss[i] * D + miss[j]] += y[i];
            }
        }
    }
    free(miss);
    free(L);
}
