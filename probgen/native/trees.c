/* Discrete columns on trees with unknown cells: log densities, and expected counts of all pairs of levels.

   codes (N, D), -1 = unknown; sizes (D) numbers of levels, at most C; order (K, D) columns of each tree, parents before
   children and branch after branch; parents (K, D), -1 = root; tables (K, D, C, C) probabilities of a column's level
   given its parent's, the root's in column 0. first (D) places of the columns among M indicators of all levels but the
   first ones; slot (D) places among W levels. out, weight (K, N); pairs (K, M, M), of which the triangle i <= j is
   written; unknown (K, W) levels of unknown cells. */
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct {
    int64_t D, C, M;
    const int64_t *sizes, *first, *slot;
} Shape;

typedef struct {
    const int64_t *order, *parents;
    const double *tables;
} Tree;

static const double SMALL = 1e-100;

/* below (D, C): what each subtree's known cells say of a column's levels, up to a factor. Returns the log density. */
static double upward(Shape s, Tree t, const int32_t *code, double *below) {
    double log_scale = 0.0;
    for (int64_t d = 0; d < s.D; d++)
        for (int64_t a = 0; a < s.sizes[d]; a++) below[d * s.C + a] = code[d] < 0 || code[d] == a;
    for (int64_t at = s.D - 1; at >= 0; at--) {
        int64_t child = t.order[at], parent = t.parents[child];
        const double *table = t.tables + child * s.C * s.C, *own = below + child * s.C;
        double root = 0.0, *up = parent < 0 ? &root : below + parent * s.C, most = 0.0;
        int64_t low = 0, high = parent < 0 ? 1 : s.sizes[parent];
        if (parent >= 0 && code[parent] >= 0) low = code[parent], high = low + 1;
        int64_t from = code[child] < 0 ? 0 : code[child], to = code[child] < 0 ? s.sizes[child] : from + 1;
        for (int64_t b = low; b < high; b++) {
            double sum = 0.0;
            for (int64_t a = from; a < to; a++) sum += table[a * s.C + b] * own[a];
            up[b] = parent < 0 ? sum : up[b] * sum;
            if (up[b] > most) most = up[b];
        }
        if (parent >= 0 && most > SMALL) continue;
        if (most < DBL_MIN) most = DBL_MIN;
        for (int64_t b = low; b < high; b++) up[b] /= most;
        log_scale += log(most);
    }
    return log_scale;
}

/* mean (D, C) of the levels given the known cells, and slope (D, C, C): the same given the parent's level too. */
static void downward(Shape s, Tree t, const int32_t *code, const double *below, double *mean, double *slope) {
    for (int64_t at = 0; at < s.D; at++) {
        int64_t child = t.order[at], parent = t.parents[child], L = s.sizes[child];
        double *own = mean + child * s.C, *given = slope + child * s.C * s.C;
        for (int64_t a = 0; a < L; a++) own[a] = code[child] == a;
        if (code[child] >= 0) continue;
        int64_t low = 0, high = parent < 0 ? 1 : s.sizes[parent];
        if (parent >= 0 && code[parent] >= 0) low = code[parent], high = low + 1;
        for (int64_t b = low; b < high; b++) {
            double sum = DBL_MIN, share = parent < 0 ? 1.0 : mean[parent * s.C + b];
            for (int64_t a = 0; a < L; a++) {
                given[a * s.C + b] = t.tables[(child * s.C + a) * s.C + b] * below[child * s.C + a];
                sum += given[a * s.C + b];
            }
            for (int64_t a = 0; a < L; a++) own[a] += share * (given[a * s.C + b] /= sum);
        }
    }
}

static void add(double *pairs, int64_t M, int64_t i, int64_t j, double value) {
    pairs[i < j ? i * M + j : j * M + i] += value;
}

/* Products of means, but for pairs of levels of one column. */
static void add_products(Shape s, const int32_t *code, const double *mean, double weight, double *pairs, int64_t *at,
                         double *value) {
    int64_t n = 0;
    for (int64_t d = 0; d < s.D; d++) {
        int64_t before = n;
        for (int64_t a = 1; a < s.sizes[d]; a++)
            if (code[d] < 0 || code[d] == a) {
                at[n] = s.first[d] + a - 1, value[n] = weight * mean[d * s.C + a];
                pairs[at[n] * s.M + at[n]] += value[n];
                for (int64_t i = 0; i < before; i++) pairs[at[i] * s.M + at[n]] += value[i] * mean[d * s.C + a];
                n++;
            }
    }
}

/* Covariances of cells that only unknown ones part. Down the tree, the covariances of a cell with those before it are
   its parent's times a matrix of regression. reach (D): the topmost cell of each run of unknown ones; cov (M, M). */
static void add_covariances(Shape s, Tree t, const int32_t *code, const double *mean, const double *slope, double weight,
                            double *pairs, int64_t *reach, double *cov) {
    for (int64_t at = 0; at < s.D; at++) {
        int64_t child = t.order[at], parent = t.parents[child], i = s.first[child], L = s.sizes[child];
        reach[child] = -1;
        if (code[child] >= 0) continue;
        reach[child] = parent >= 0 && code[parent] < 0 ? reach[parent] : at;
        const double *own = mean + child * s.C, *given = slope + child * s.C * s.C;
        for (int64_t a = 1; a < L; a++)
            for (int64_t b = 1; b < L; b++) cov[(i + a - 1) * s.M + i + b - 1] = (a == b) * own[a] - own[a] * own[b];
        for (int64_t place = reach[child]; place < at; place++) {
            int64_t other = t.order[place], j = s.first[other], p = s.first[parent];
            if (reach[other] != reach[child]) continue;
            for (int64_t e = 0; e < s.sizes[other] - 1; e++)
                for (int64_t a = 1; a < L; a++) {
                    double sum = 0.0;
                    for (int64_t b = 1; b < s.sizes[parent]; b++)
                        sum += (given[a * s.C + b] - given[a * s.C]) * cov[(p + b - 1) * s.M + j + e];
                    cov[(i + a - 1) * s.M + j + e] = cov[(j + e) * s.M + i + a - 1] = sum;
                    add(pairs, s.M, i + a - 1, j + e, weight * sum);
                }
        }
    }
}

void forward(int64_t N, int64_t K, int64_t D, int64_t C, const int32_t *restrict codes, const int64_t *restrict sizes,
             const int64_t *restrict order, const int64_t *restrict parents, const double *restrict tables,
             double *restrict out) {
    Shape s = {D, C, 0, sizes, 0, 0};
    double *below = malloc(D * C * sizeof(double));
    for (int64_t k = 0; k < K; k++) {
        Tree t = {order + k * D, parents + k * D, tables + k * D * C * C};
        for (int64_t n = 0; n < N; n++) out[k * N + n] = upward(s, t, codes + n * D, below);
    }
    free(below);
}

void backward(int64_t N, int64_t K, int64_t D, int64_t C, int64_t M, int64_t W, const int32_t *restrict codes,
              const int64_t *restrict sizes, const int64_t *restrict first, const int64_t *restrict slot,
              const int64_t *restrict order, const int64_t *restrict parents, const double *restrict tables,
              const double *restrict weight, double *restrict pairs, double *restrict unknown) {
    Shape s = {D, C, M, sizes, first, slot};
    double *below = malloc((2 * D * C + D * C * C + M * M + M) * sizeof(double));
    double *mean = below + D * C, *slope = mean + D * C, *cov = slope + D * C * C, *value = cov + M * M;
    int64_t *at = malloc((M + D) * sizeof(int64_t)), *reach = at + M;
    for (int64_t k = 0; k < K; k++) {
        Tree t = {order + k * D, parents + k * D, tables + k * D * C * C};
        for (int64_t n = 0; n < N; n++) {
            const int32_t *code = codes + n * D;
            double w = weight[k * N + n];
            if (w == 0.0) continue;
            upward(s, t, code, below);
            downward(s, t, code, below, mean, slope);
            add_products(s, code, mean, w, pairs + k * M * M, at, value);
            add_covariances(s, t, code, mean, slope, w, pairs + k * M * M, reach, cov);
            for (int64_t d = 0; d < D; d++)
                if (code[d] < 0)
                    for (int64_t a = 0; a < sizes[d]; a++) unknown[k * W + slot[d] + a] += w * mean[d * C + a];
        }
    }
    free(below);
    free(at);
}
