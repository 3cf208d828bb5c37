/* Un-normalised Gaussians with unknown cells integrated out, LANES components side by side in every number.

   For a row with unknown cells m and known cells o, under exp(c + h'x - x'Px/2):
     t = h_m - P_mo x_o,   y = P_mm^-1 t (the expected unknown cells),
     log density = (the same with zeros for the unknown cells) + t'y/2 - log|P_mm|/2 + |m|/2 log 2 pi.
   The first part is a matrix product and is not done here. Rows come sorted by their pattern of unknown cells.

   P (B, D, D, LANES) and h (B, D, LANES) hold B blocks of components; x (N, D) has zeros for unknown cells. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__AVX512F__)
#define LANES 8
#elif defined(__AVX__)
#define LANES 4
#else
#define LANES 2
#endif

#define INLINE static inline __attribute__((always_inline))

typedef double V __attribute__((vector_size(8 * LANES), aligned(8))); /* what one register holds */

int64_t lanes(void) { return LANES; }

enum { AHEAD = 8 };
static const double NEGLIGIBLE = 1e-25; /* weights that change no sum over rows */
static const double LOG_TWO_PI = 1.8378770664093454836;

/* log of the product of d, as few logarithms as the range of numbers allows. */
static V log_det(const V *d, int64_t m) {
    V product = (V){0} + 1.0, logs = {0};
    for (int64_t j = 0; j < m; j++) {
        product *= d[j];
        int wide = j == m - 1;
        if (j % 4 == 3)
            for (int lane = 0; lane < LANES; lane++) wide |= !(product[lane] > 1e-100 && product[lane] < 1e100);
        if (wide) {
            for (int lane = 0; lane < LANES; lane++) logs[lane] += log(product[lane]);
            product = (V){0} + 1.0;
        }
    }
    return logs;
}

/* P_mm = L diag(d) L', unit lower triangular. */
INLINE void factor(const V *restrict P, int64_t D, const int64_t *restrict miss, int64_t m, V *restrict L,
                   V *restrict diagonal, V *restrict inverse) {
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
INLINE void solve(const V *restrict L, const V *restrict inverse, int64_t m, V *restrict y) {
    for (int64_t i = 1; i < m; i++) {
        V sum = y[i];
        for (int64_t p = 0; p < i; p++) sum -= L[i * m + p] * y[p];
        y[i] = sum;
    }
    for (int64_t i = 0; i < m; i++) y[i] *= inverse[i];
    for (int64_t i = m - 2; i >= 0; i--) {
        V sum = y[i];
        for (int64_t p = i + 1; p < m; p++) sum -= L[p * m + i] * y[p];
        y[i] = sum;
    }
}

/* (L diag(d) L')^-1, its lower triangle; L is overwritten by its inverse. */
INLINE void invert(V *restrict L, const V *restrict inverse, int64_t m, V *restrict out) {
    for (int64_t j = 0; j < m; j++)
        for (int64_t i = j + 1; i < m; i++) {
            V sum = L[i * m + j];
            for (int64_t p = j + 1; p < i; p++) sum += L[i * m + p] * L[p * m + j];
            L[i * m + j] = -sum;
        }
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j <= i; j++) {
            V sum = j == i ? inverse[i] : L[i * m + j] * inverse[i];
            for (int64_t p = i + 1; p < m; p++) sum += L[p * m + i] * L[p * m + j] * inverse[p];
            out[i * m + j] = sum;
        }
}

static int negligible(const V *w) {
    for (int lane = 0; lane < LANES; lane++)
        if (fabs((*w)[lane]) > NEGLIGIBLE) return 0;
    return 1;
}

INLINE void pull(const V *restrict P, const V *restrict h, int64_t D, const int64_t *restrict miss, int64_t m,
                 const int64_t *restrict seen, int64_t o, const double *restrict x, V *restrict t) {
    for (int64_t i = 0; i < m; i++) t[i] = h[miss[i]];
    for (int64_t j = 0; j < o; j++) {
        const V *column = P + seen[j] * D; /* P is symmetric */
        double value = x[seen[j]];
        for (int64_t i = 0; i < m; i++) t[i] -= column[miss[i]] * value;
    }
}

static int64_t split(const uint8_t *unknown, int64_t D, int64_t *miss, int64_t *seen) {
    int64_t m = 0, o = 0;
    for (int64_t d = 0; d < D; d++)
        if (unknown[d]) miss[m++] = d;
        else seen[o++] = d;
    return m;
}

/* Where a pattern's numbers stand while its rows are visited. */
typedef struct {
    int64_t D, N, o, first, last; /* columns, rows, known columns, the pattern's rows in order */
    const int64_t *order, *miss, *seen;
    const double *x;
    V *L, *diagonal, *inverse, *t, *y;
} Work;

/* Rows are visited in another order than they stand in: ask for one to come. */
INLINE void fetch(const Work *w, int64_t r, const V *numbers, int64_t stride) {
    int64_t next = w->order[r + AHEAD < w->N ? r + AHEAD : r];
    __builtin_prefetch(w->x + next * w->D);
    __builtin_prefetch(numbers + next * stride);
}

INLINE void forward_rows(Work w, const V *P, const V *h, int64_t stride, V *out, int64_t m) {
    factor(P, w.D, w.miss, m, w.L, w.diagonal, w.inverse);
    V constant = 0.5 * (m * LOG_TWO_PI - log_det(w.diagonal, m));
    for (int64_t r = w.first; r < w.last; r++) {
        V sum = {0};
        fetch(&w, r, out, stride);
        pull(P, h, w.D, w.miss, m, w.seen, w.o, w.x + w.order[r] * w.D, w.t);
        for (int64_t i = 0; i < m; i++) w.y[i] = w.t[i];
        solve(w.L, w.inverse, m, w.y);
        for (int64_t i = 0; i < m; i++) sum += w.t[i] * w.y[i];
        out[w.order[r] * stride] = constant + 0.5 * sum;
    }
}

INLINE void backward_rows(Work w, const V *P, const V *h, int64_t stride, const V *weight, V *first, V *second, int64_t m) {
    V total = {0};
    factor(P, w.D, w.miss, m, w.L, w.diagonal, w.inverse);
    for (int64_t r = w.first; r < w.last; r++) {
        const double *row = w.x + w.order[r] * w.D;
        fetch(&w, r, weight, stride);
        V own = weight[w.order[r] * stride];
        if (negligible(&own)) continue;
        pull(P, h, w.D, w.miss, m, w.seen, w.o, row, w.y);
        solve(w.L, w.inverse, m, w.y);
        total += own;
        for (int64_t i = 0; i < m; i++) {
            V wy = own * w.y[i], *into = second + w.miss[i] * w.D;
            first[w.miss[i]] += wy;
            for (int64_t j = 0; j < w.o; j++) into[w.seen[j]] += wy * row[w.seen[j]];
            for (int64_t j = 0; j <= i; j++) into[w.miss[j]] += wy * w.y[j];
        }
    }
    invert(w.L, w.inverse, m, w.y + m);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j <= i; j++) second[w.miss[i] * w.D + w.miss[j]] += total * w.y[m + i * m + j];
}

/* Loops of known length where few cells are unknown: the compiler unrolls them. */
#define FOR_EACH_LENGTH(m, call) \
    switch (m) { \
    case 1: call(1); break; \
    case 2: call(2); break; \
    case 3: call(3); break; \
    case 4: call(4); break; \
    case 5: call(5); break; \
    case 6: call(6); break; \
    case 7: call(7); break; \
    case 8: call(8); break; \
    default: call(m); \
    }

static Work room(int64_t D, int64_t N, const int64_t *order, const double *x, int64_t *indices) {
    V *L = aligned_alloc(64, (2 * D * D + 4 * D) * sizeof(V));
    return (Work){D, N, 0, 0, 0, order, indices, indices + D, x, L, L + D * D, L + D * D + D, L + D * D + 2 * D, L + D * D + 3 * D};
}

/* out (N, B, LANES): what the unknown cells add to the log density. */
void forward(int64_t patterns, int64_t blocks, int64_t D, const int64_t *edges, const int64_t *order,
             const uint8_t *unknown, const double *x, const V *P, const V *h, V *out) {
    int64_t *indices = malloc(2 * D * sizeof(int64_t));
    Work w = room(D, edges[patterns], order, x, indices);
    for (int64_t g = 0; g < patterns; g++) {
        int64_t m = split(unknown + g * D, D, indices, indices + D);
        w.o = D - m, w.first = edges[g], w.last = edges[g + 1];
        for (int64_t b = 0; b < blocks; b++) {
#define CALL(n) forward_rows(w, P + b * D * D, h + b * D, blocks, out + b, n)
            FOR_EACH_LENGTH(m, CALL)
#undef CALL
        }
    }
    free(indices);
    free(w.L);
}

/* Expected statistics beyond those of the zeros: first (B, D, LANES) and second (B, D, D, LANES), lower triangle of the
   unknown block and the rows of unknown cells; rows count weight (N, B, LANES) times. */
void backward(int64_t patterns, int64_t blocks, int64_t D, const int64_t *edges, const int64_t *order,
              const uint8_t *unknown, const double *x, const V *P, const V *h, const V *weight, V *first, V *second) {
    int64_t *indices = malloc(2 * D * sizeof(int64_t));
    Work w = room(D, edges[patterns], order, x, indices);
    for (int64_t g = 0; g < patterns; g++) {
        int64_t m = split(unknown + g * D, D, indices, indices + D);
        if (m == 0) continue;
        w.o = D - m, w.last = edges[g + 1];
        for (int64_t b = 0; b < blocks; b++) {
            w.first = edges[g];
            while (w.first < w.last && negligible(weight + order[w.first] * blocks + b)) w.first++;
            if (w.first == w.last) continue;
#define CALL(n) backward_rows(w, P + b * D * D, h + b * D, blocks, weight + b, first + b * D, second + b * D * D, n)
            FOR_EACH_LENGTH(m, CALL)
#undef CALL
        }
    }
    free(indices);
    free(w.L);
}
