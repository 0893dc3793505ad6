// Draws three mirrors on a chessboard, or one tile of that picture: raytrace [TILE TILES [WIDTH HEIGHT]].
//
// The result is a PPM on standard output. A tile says in a comment of its header where it belongs in the whole
// ("# at X Y of WIDTH HEIGHT"), so that whoever collects the tiles can put them together in any order.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((import_module("zerostate"), import_name("progress"))) void progress(int thousandths);

enum { SAMPLES = 6, BOUNCES = 5, MAX_SIDE = 2048 };

typedef struct { double x, y, z; } vec;
typedef struct { vec at; double radius; vec color; double mirror; } sphere;

static const sphere spheres[] = {
    {{0.0, 1.0, 0.0}, 1.0, {0.90, 0.16, 0.10}, 0.22},
    {{-2.05, 0.75, 0.75}, 0.75, {0.95, 0.62, 0.10}, 0.16},
    {{1.95, 0.85, 0.55}, 0.85, {0.06, 0.34, 0.80}, 0.24},
    {{0.75, 0.38, -1.55}, 0.38, {0.92, 0.94, 0.96}, 0.78},
    {{-0.95, 0.30, -1.35}, 0.30, {0.16, 0.62, 0.18}, 0.16},
    {{3.6, 1.3, 3.6}, 1.3, {0.42, 0.20, 0.78}, 0.20},
    {{-3.9, 1.2, 3.4}, 1.2, {0.05, 0.52, 0.48}, 0.20},
};
enum { SPHERES = sizeof spheres / sizeof *spheres };

static vec add(vec a, vec b) { return (vec){a.x + b.x, a.y + b.y, a.z + b.z}; }
static vec sub(vec a, vec b) { return (vec){a.x - b.x, a.y - b.y, a.z - b.z}; }
static vec scale(vec a, double k) { return (vec){a.x * k, a.y * k, a.z * k}; }
static vec times(vec a, vec b) { return (vec){a.x * b.x, a.y * b.y, a.z * b.z}; }
static vec mix(vec a, vec b, double k) { return add(scale(a, 1 - k), scale(b, k)); }
static double dot(vec a, vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
static vec unit(vec a) { return scale(a, 1 / sqrt(dot(a, a))); }
static double clamp(double v) { return v < 0 ? 0 : v > 1 ? 1 : v; }

static double power(double base, int exponent) {
    double result = 1;
    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            result *= base;
    return result;
}

// Distance along the ray to a sphere, or infinity.
static double hit(const sphere *s, vec from, vec along) {
    vec to = sub(s->at, from);
    double middle = dot(to, along), apart = dot(to, to) - middle * middle, reach = s->radius * s->radius - apart;
    if (reach < 0)
        return INFINITY;
    double half = sqrt(reach), near = middle - half, far = middle + half;
    return near > 1e-4 ? near : far > 1e-4 ? far : INFINITY;
}

static const sphere *nearest(vec from, vec along, double *distance) {
    const sphere *found = NULL;
    *distance = INFINITY;
    for (int i = 0; i < SPHERES; i++) {
        double d = hit(&spheres[i], from, along);
        if (d < *distance) {
            *distance = d;
            found = &spheres[i];
        }
    }
    return found;
}

static vec sky(vec along, vec sun) {
    vec horizon = {0.98, 0.62, 0.36}, zenith = {0.05, 0.16, 0.46};
    vec color = mix(horizon, zenith, sqrt(clamp(along.y * 1.6)));
    double glow = clamp(dot(along, sun));
    return add(color, add(scale((vec){1.0, 0.75, 0.45}, 0.35 * power(glow, 12)), scale((vec){1, 0.95, 0.85}, power(glow, 512))));
}

// How much of the sun's disc is seen: soft shadows from a grid of directions towards it.
static double sunlight(vec at, vec sun) {
    vec side = unit((vec){sun.z, 0, -sun.x}), up = {sun.y * side.z, sun.z * side.x - sun.x * side.z, -sun.y * side.x};
    int seen = 0;
    for (int i = 0; i < 9; i++) {
        vec towards = unit(add(sun, add(scale(side, (i % 3 - 1) * 0.045), scale(up, (i / 3 - 1) * 0.045))));
        double distance;
        seen += nearest(at, towards, &distance) == NULL;
    }
    return seen / 9.0;
}

static vec trace(vec from, vec along) {
    const vec sun = unit((vec){-0.62, 0.62, -0.48});
    vec color = {0, 0, 0}, share = {1, 1, 1};
    for (int bounce = 0; bounce < BOUNCES; bounce++) {
        double distance;
        const sphere *s = nearest(from, along, &distance);
        double ground = along.y < -1e-6 ? -from.y / along.y : INFINITY;
        if (!s && ground == INFINITY)
            return add(color, times(share, sky(along, sun)));
        vec at, normal, base;
        double mirror, haze = 0;
        if (ground < distance) {
            at = add(from, scale(along, ground));
            normal = (vec){0, 1, 0};
            int odd = ((int)floor(at.x * 0.8 + 1000) + (int)floor(at.z * 0.8 + 1000)) & 1;
            base = odd ? (vec){0.74, 0.71, 0.66} : (vec){0.05, 0.06, 0.09};
            mirror = 0.14;
            haze = clamp((ground - 8) / 34);
        } else {
            at = add(from, scale(along, distance));
            normal = unit(sub(at, s->at));
            base = s->color;
            mirror = s->mirror;
        }
        double facing = clamp(-dot(along, normal));
        mirror += (1 - mirror) * 0.75 * power(1 - facing, 5);
        vec start = add(at, scale(normal, 1e-3)), back = sub(along, scale(normal, 2 * dot(along, normal)));
        double lit = clamp(dot(normal, sun));
        lit *= lit > 0 ? sunlight(start, sun) : 0;
        vec light = add(scale((vec){1.0, 0.92, 0.80}, 0.95 * lit), scale((vec){0.30, 0.40, 0.60}, 0.22 + 0.45 * clamp(normal.y)));
        vec surface = times(base, light);
        surface = add(surface, scale((vec){1, 0.96, 0.9}, lit > 0 && s && ground >= distance ? 0.9 * power(clamp(dot(back, sun)), 90) : 0));
        vec here = mix(surface, sky(unit((vec){along.x, 0.02, along.z}), sun), haze);
        color = add(color, times(share, scale(here, 1 - mirror * (1 - haze))));
        share = scale(share, mirror * (1 - haze));
        if (share.x + share.y + share.z < 0.01)
            break;
        from = start;
        along = back;
    }
    return color;
}

static vec pixel(int x, int y, int width, int height) {
    const vec eye = {0.25, 1.75, -6.4}, target = {0, 0.85, 0};
    vec ahead = unit(sub(target, eye)), right = unit((vec){ahead.z, 0, -ahead.x});
    vec up = {ahead.y * right.z, ahead.z * right.x - ahead.x * right.z, -ahead.y * right.x};
    double lens = 0.46, ratio = (double)height / width;
    up = scale(up, dot(up, (vec){0, 1, 0}) < 0 ? -1 : 1);
    vec sum = {0, 0, 0};
    for (int i = 0; i < SAMPLES * SAMPLES; i++) {
        double u = (x + (i % SAMPLES + 0.5) / SAMPLES) / width * 2 - 1;
        double v = 1 - (y + (i / SAMPLES + 0.5) / SAMPLES) / height * 2;
        vec along = unit(add(ahead, add(scale(right, u * lens), scale(up, v * lens * ratio))));
        vec c = trace(eye, along);
        sum = add(sum, (vec){clamp(c.x), clamp(c.y), clamp(c.z)});
    }
    return scale(sum, 1.0 / (SAMPLES * SAMPLES));
}

static int byte_of(double light) { return (int)(255 * sqrt(clamp(light)) + 0.5); }

static int number(const char *text, int least, int most) {
    char *end;
    long value = strtol(text, &end, 10);
    return *text && !*end && value >= least && value <= most ? (int)value : -1;
}

int main(int argc, char **argv) {
    int tile = argc > 1 ? number(argv[1], 0, 4095) : 0, tiles = argc > 2 ? number(argv[2], 1, 4096) : argc > 1 ? 16 : 1;
    int width = argc > 3 ? number(argv[3], 1, MAX_SIDE) : 320, height = argc > 4 ? number(argv[4], 1, MAX_SIDE) : 200;
    if (argc > 5 || tile < 0 || tiles < 0 || tile >= tiles || width < 0 || height < 0) {
        fprintf(stderr, "usage: raytrace [TILE TILES [WIDTH HEIGHT]], TILE from 0 to TILES - 1\n");
        return 2;
    }
    int rows = (int)sqrt((double)tiles);
    while (tiles % rows)
        rows--;
    int columns = tiles / rows, row = tile / columns, column = tile % columns;
    int left = column * width / columns, right = (column + 1) * width / columns;
    int top = row * height / rows, bottom = (row + 1) * height / rows;
    if (left == right || top == bottom) {
        fprintf(stderr, "there are more tiles than pixels\n");
        return 2;
    }
    printf("P6\n# at %d %d of %d %d\n%d %d\n255\n", left, top, width, height, right - left, bottom - top);
    for (int y = top; y < bottom; y++) {
        for (int x = left; x < right; x++) {
            vec color = pixel(x, y, width, height);
            putchar(byte_of(color.x));
            putchar(byte_of(color.y));
            putchar(byte_of(color.z));
        }
        fflush(stdout);
        progress((y + 1 - top) * 1000 / (bottom - top));
    }
    return 0;
}
