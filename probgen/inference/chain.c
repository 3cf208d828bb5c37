/* Forward and backward passes of chains, one sequence after the other, scaled in every step.
   Arrays are row-major doubles: likelihood, alpha and state (N, K); A (K, K); scale (N); weight and starts (S). */
#include <stdint.h>
#include <string.h>

#define STATES 64
#define FIXED static inline __attribute__((always_inline)) void

/* Call a function with a number of states that the compiler knows, where it is small. */
#define CASE(k, name, ...) case k: name(k, __VA_ARGS__); break;
#define WITH_STATES(K, name, ...)                                                                                      \
    switch (K) {                                                                                                       \
        CASE(1, name, __VA_ARGS__) CASE(2, name, __VA_ARGS__) CASE(3, name, __VA_ARGS__) CASE(4, name, __VA_ARGS__)    \
        CASE(5, name, __VA_ARGS__) CASE(6, name, __VA_ARGS__) CASE(7, name, __VA_ARGS__) CASE(8, name, __VA_ARGS__)    \
        CASE(10, name, __VA_ARGS__) CASE(12, name, __VA_ARGS__) CASE(16, name, __VA_ARGS__)                            \
        CASE(32, name, __VA_ARGS__) default: name(K, __VA_ARGS__);                                                     \
    }

FIXED forward_states(const int64_t K, int64_t sequences, const int64_t *restrict starts, const int64_t *restrict lengths, const double *restrict initial,
             const double *restrict A, const double *restrict likelihood, double *restrict alpha, double *restrict scale) {
    for (int64_t s = 0; s < sequences; s++) {
        const double *restrict seen = likelihood + starts[s] * K;
        double *restrict now = alpha + starts[s] * K, *total = scale + starts[s];
        for (int64_t t = 0; t < lengths[s]; t++, seen += K, now += K) {
            double next[STATES], sum = 0.0;
            if (t == 0) {
                memcpy(next, initial, K * sizeof(double));
            } else {
                const double *restrict before = now - K;
                for (int64_t k = 0; k < K; k++) next[k] = before[0] * A[k];
                for (int64_t j = 1; j < K; j++)
                    for (int64_t k = 0; k < K; k++) next[k] += before[j] * A[j * K + k];
            }
            for (int64_t k = 0; k < K; k++) next[k] *= seen[k];
            for (int64_t k = 0; k < K; k++) sum += next[k];
            double inverse = 1.0 / sum;
            for (int64_t k = 0; k < K; k++) now[k] = next[k] * inverse;
            total[t] = sum;
        }
    }
}

/* state = weight * posterior of every step; counts += weight * sum of alpha_{t-1} (x) pull_t, to be multiplied by A. */
FIXED backward_states(const int64_t K, int64_t sequences, const int64_t *restrict starts, const int64_t *restrict lengths, const double *restrict turned,
              const double *restrict likelihood, const double *restrict alpha, const double *restrict scale, const double *restrict weight, double *restrict state,
              double *restrict first, double *restrict counts) {
    double summed[STATES * STATES] = {0.0};
    for (int64_t s = 0; s < sequences; s++) {
        double beta[STATES], pull[STATES], w = weight[s];
        for (int64_t k = 0; k < K; k++) beta[k] = 1.0;
        for (int64_t t = lengths[s] - 1; t >= 0; t--) {
            int64_t row = (starts[s] + t) * K;
            double inverse = 1.0 / scale[starts[s] + t];
            for (int64_t k = 0; k < K; k++) state[row + k] = w * alpha[row + k] * beta[k];
            if (t == 0) break;
            for (int64_t k = 0; k < K; k++) pull[k] = beta[k] * likelihood[row + k] * inverse;
            const double *restrict before = alpha + row - K;
            for (int64_t j = 0; j < K; j++) {
                double a = w * before[j];
                for (int64_t k = 0; k < K; k++) summed[j * K + k] += a * pull[k];
            }
            for (int64_t k = 0; k < K; k++) beta[k] = pull[0] * turned[k];
            for (int64_t j = 1; j < K; j++)
                for (int64_t k = 0; k < K; k++) beta[k] += pull[j] * turned[j * K + k];
        }
        for (int64_t k = 0; k < K; k++) first[k] += state[starts[s] * K + k];
    }
    for (int64_t k = 0; k < K * K; k++) counts[k] += summed[k];
}

void forward(int64_t sequences, int64_t K, const int64_t *restrict starts, const int64_t *restrict lengths, const double *restrict initial,
             const double *restrict A, const double *restrict likelihood, double *restrict alpha, double *restrict scale) {
    WITH_STATES(K, forward_states, sequences, starts, lengths, initial, A, likelihood, alpha, scale)
}

void backward(int64_t sequences, int64_t K, const int64_t *restrict starts, const int64_t *restrict lengths, const double *restrict turned,
              const double *restrict likelihood, const double *restrict alpha, const double *restrict scale, const double *restrict weight, double *restrict state,
              double *restrict first, double *restrict counts) {
    WITH_STATES(K, backward_states, sequences, starts, lengths, turned, likelihood, alpha, scale, weight, state, first,
                counts)
}
